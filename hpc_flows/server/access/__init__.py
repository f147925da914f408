"""Who may do what: tokens, users, projects, and the one place that decides about a request."""
