"""How things are shown to people: sizes, durations, how far work has come, tables in notebooks."""
