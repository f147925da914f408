"""Names that Prefect users import from `prefect.utilities`."""
