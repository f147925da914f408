"""What the client takes and gives, under Prefect's names: filters, orders, objects."""
