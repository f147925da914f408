"""The languages that a mock cluster speaks; one folder for each scheduler's commands."""
