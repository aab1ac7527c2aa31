"""What ``umbel demo`` runs: an application with real work, the texts that it reads, and the run itself."""
