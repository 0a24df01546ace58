"""record: keeps every outcome in ClickHouse, exactly once."""
