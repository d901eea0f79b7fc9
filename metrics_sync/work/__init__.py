"""Puts jobs on the queues and runs them: the only package that knows RQ and django_rq."""
