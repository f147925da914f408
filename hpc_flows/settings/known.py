"""All settings there are."""

from __future__ import annotations

from hpc_flows.exceptions import SettingsError, close_match
from hpc_flows.settings.kinds import PREFIX, Setting

SETTINGS: tuple[Setting, ...] = (
    Setting("home", "path", "~/.hpc_flows", "Folder of runs, clusters and profiles.toml."),
    Setting("cluster", "text", None, "Cluster that tasks with resources are sent to."),
    Setting(
        "log_level",
        "text",
        "INFO",
        "Least important level that is shown and journalled.",
        ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    ),
    Setting("log_prints", "flag", False, "Whether print() in flows and tasks makes log records."),
    Setting(
        "log_output",
        "flag",
        True,
        "Whether log_prints in jobs and process pools takes all output, also of compiled code.",
    ),
    Setting(
        "logging_extra_loggers",
        "text",
        None,
        "Other loggers, separated by commas, whose records in runs are kept and shown.",
    ),
    Setting("task_default_retries", "integer", 0, "Retries of tasks that do not say."),
    Setting(
        "task_default_retry_delay_seconds",
        "number",
        0.0,
        "Seconds before a retry, for tasks that do not say.",
    ),
    Setting("flow_default_retries", "integer", 0, "Retries of flows that do not say."),
    Setting(
        "flow_default_retry_delay_seconds",
        "number",
        0.0,
        "Seconds before a retry, for flows that do not say.",
    ),
    Setting(
        "results_inline_limit",
        "integer",
        65536,
        "Largest result, in bytes, that is kept in the journal instead of a file.",
    ),
    Setting(
        "results_persist_by_default",
        "flag",
        False,
        "Whether tasks and flows that do not say keep their results for other runs.",
    ),
    Setting(
        "results_storage",
        "text",
        None,
        "Folder of results that are kept for other runs; unset takes `storage` in the home.",
    ),
    Setting(
        "results_default_serializer",
        "text",
        "pickle",
        "How results that are kept for other runs are written, unless the task or flow says.",
    ),
    Setting(
        "results_lock_seconds",
        "number",
        60.0,
        "How long the lock on a key outlives the machine whose process held it.",
    ),
    Setting("tasks_default_no_cache", "flag", False, "Whether tasks without a policy have none."),
    Setting("tasks_disable_caching", "flag", False, "Whether no task takes a kept result."),
    Setting("tasks_refresh_cache", "flag", False, "Whether tasks run though results are kept."),
    Setting(
        "journal_fsync",
        "flag",
        True,
        "Whether the journal waits for the disk; without, a power cut may lose its end.",
    ),
    Setting(
        "thread_workers",
        "integer",
        None,
        "Most tasks that run in threads at once; unset lets the runner choose.",
    ),
    Setting(
        "array_window_seconds",
        "number",
        0.05,
        "How long ready tasks are collected before they are submitted as one array.",
    ),
    Setting(
        "console_colour",
        "text",
        "auto",
        "Whether console lines are coloured; auto: on terminals.",
        ("auto", "always", "never"),
    ),
    Setting(
        "api_url",
        "url",
        None,
        "Server that runs report to: http(s)://host:port[/prefix] or unix:///path/to/socket.",
    ),
    Setting("api_key", "text", None, "Token for that server.", secret=True),
    Setting(
        "report",
        "report",
        "auto",
        "Who reports: auto (the flow's own process, to all that is configured), off, relay (the "
        "one on the login node), or ssh://[user@]host[:port]/TARGET (through a tunnel).",
    ),
    Setting(
        "ssh_client",
        "text",
        "openssh",
        "What makes SSH connections.",
        ("openssh", "paramiko"),
    ),
    Setting(
        "ssh_config",
        "file",
        None,
        "Configuration file that ssh is given instead of ~/.ssh/config.",
    ),
    Setting(
        "prefect_api_url",
        "url",
        None,
        "A Prefect 3 server that shows the runs too, such as http://host:4200/api.",
        also="PREFECT_API_URL",
    ),
    Setting(
        "prefect_api_key",
        "text",
        None,
        "Key for that Prefect server.",
        secret=True,
        also="PREFECT_API_KEY",
    ),
    Setting(
        "prefect_api_auth_string",
        "text",
        None,
        "`user:password` for that Prefect server.",
        secret=True,
        also="PREFECT_API_AUTH_STRING",
    ),
    Setting("report_file", "file", None, "File that all events of all runs are appended to."),
    Setting(
        "server_database",
        "database",
        None,
        "Database of a server started here: sqlite:////path/to/file or "
        "postgresql://user@host/name; unset takes `server/server.db` in the home.",
    ),
    Setting(
        "server_retention_days",
        "integer",
        None,
        "Days after which a server started here forgets runs that have ended; unset: never.",
    ),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}

#: Settings by the variables of other programs that set them.
BY_OTHER_NAME = {setting.also: setting for setting in SETTINGS if setting.also is not None}


def find_setting(name: str) -> Setting:
    """Return the setting of that name or environment variable.

    Raises:
        SettingsError: there is none.
    """
    key = name.lower().removeprefix(PREFIX.lower())
    if name.upper() in BY_OTHER_NAME:
        return BY_OTHER_NAME[name.upper()]
    if key not in BY_NAME:
        hint = close_match(key, BY_NAME)
        msg = f"There is no setting {name!r}.{hint} `hpc-flows config view` lists them."
        raise SettingsError(msg)
    return BY_NAME[key]
