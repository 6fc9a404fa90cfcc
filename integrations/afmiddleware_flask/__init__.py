"""The fence as a Flask extension: decided on the URL rule that Flask matched, before the view runs."""
