"""The fence as Django middleware: decided on the view that Django resolved, before it runs."""
