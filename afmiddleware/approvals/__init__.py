"""Approvals, pure: requests, quorum, grants, and the digest that an approval is bound to."""
