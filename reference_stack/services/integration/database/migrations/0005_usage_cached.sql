-- Whether the answer was one kept from before, which no model was asked for.
ALTER TABLE usage ADD COLUMN cached boolean NOT NULL DEFAULT false;
