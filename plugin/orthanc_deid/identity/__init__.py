"""Who is who: keys, subjects, pseudonyms, offsets and the sealed way back. All is derived, so it needs no memory."""
