"""What stands between us and a venue that fails: circuit breakers, retries, a rate budget that all processes share."""
