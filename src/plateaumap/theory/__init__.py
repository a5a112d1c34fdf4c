"""What is known of a model beyond its definition: exact lengths, flow times and predictions."""
