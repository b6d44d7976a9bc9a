"""The one way we show things: self-contained HTML pages, plots, tables, terminal progress."""
