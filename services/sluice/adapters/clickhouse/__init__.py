"""ClickHouse: connection, schema, storing outcomes, and reading them back."""
