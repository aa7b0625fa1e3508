"""Claims of the field that `trueup reproduce` measures, one file each: SUMMARY, REFERENCES and `measure`."""
