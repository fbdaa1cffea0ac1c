"""What a type is, as text that travels: schemas, what a reader makes of another writer, control texts."""
