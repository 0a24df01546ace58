"""Kafka: confluent-kafka for producing and plain consuming, Faust for the agents."""
