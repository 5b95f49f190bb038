-- Pages come in the order of bytes, whatever the order of the database is.
CREATE INDEX api_key_in_order ON api_key (id COLLATE "C");
