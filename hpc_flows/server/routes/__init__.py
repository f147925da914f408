"""The routes of `/api/v1`, and that none of them can be without a rule about who may use it."""
