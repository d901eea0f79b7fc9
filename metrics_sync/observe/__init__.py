"""What this process counts, and what its log lines say it is working on."""
