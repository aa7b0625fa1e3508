-- A disputed task is decided once.
CREATE UNIQUE INDEX one_verdict ON event (task) WHERE kind = 'verdict';
