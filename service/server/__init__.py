"""The processes of `serve`, and what each of them runs."""
