"""Outputs: pictures, raw maps, tables, contact sheets, and the one pass that feeds them all."""
