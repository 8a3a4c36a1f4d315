"""Command-line entry points; the console command is ``lefusion``."""
