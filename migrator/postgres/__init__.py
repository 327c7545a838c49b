"""PostgreSQL: connections, fingerprints, write set, fence, copies and swaps, client tools, the embedded server."""
