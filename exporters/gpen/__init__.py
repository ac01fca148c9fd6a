"""GPEN: faces restored, coloured, filled in, drawn and enlarged."""
