"""The decision point: rules, conditions, demands. Pure: no I/O, no clock."""
