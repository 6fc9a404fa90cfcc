"""A request becomes an action event: refusal of ambiguous requests, strict parsing, extractors, bindings."""
