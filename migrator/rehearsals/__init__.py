"""What a changelog does, tried where nothing is lost: the hard dry run, the rehearsal and its attestation."""
