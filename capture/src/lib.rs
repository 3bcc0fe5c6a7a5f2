//! What walcast installs on the source: publication, slot, and later the capture of DDL.
