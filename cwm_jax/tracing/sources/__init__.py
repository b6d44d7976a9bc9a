"""Where programs come from. Each source yields `Program`s; the recorder turns them into traces."""
