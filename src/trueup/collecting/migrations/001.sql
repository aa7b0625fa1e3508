-- What a project holds. Times are UTC: `at` as ISO 8601 text, `expires` in seconds since 1970.
CREATE TABLE setting (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) {strict};
CREATE TABLE person (
  id {id},
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('annotator', 'lead', 'owner')),
  team TEXT NOT NULL,
  token TEXT NOT NULL UNIQUE,
  sessions INTEGER NOT NULL,
  active INTEGER NOT NULL,
  passed INTEGER,
  at TEXT NOT NULL
) {strict};
CREATE TABLE task (
  id {id},
  block TEXT NOT NULL,
  kind TEXT NOT NULL,
  purpose TEXT NOT NULL CHECK (purpose IN ('work', 'gold', 'qualify')),
  sha TEXT NOT NULL,
  body TEXT NOT NULL,
  gold TEXT,
  overlap INTEGER NOT NULL,
  answers INTEGER NOT NULL,
  models TEXT NOT NULL,
  UNIQUE (block, purpose, sha)
) {strict};
CREATE INDEX left_to_do ON task (purpose, answers);
CREATE TABLE lease (
  task {int} NOT NULL REFERENCES task (id),
  person {int} NOT NULL REFERENCES person (id),
  expires {int} NOT NULL,
  PRIMARY KEY (task, person)
) {strict};
CREATE TABLE event (
  seq {id},
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  person {int} REFERENCES person (id),
  task {int} REFERENCES task (id),
  body TEXT NOT NULL
) {strict};
CREATE TABLE answer (
  id {id},
  task {int} NOT NULL REFERENCES task (id),
  person {int} NOT NULL REFERENCES person (id),
  retry_key TEXT NOT NULL UNIQUE,
  skipped INTEGER NOT NULL,
  body TEXT NOT NULL,
  shown TEXT NOT NULL,
  seconds {int} NOT NULL,
  version TEXT NOT NULL,
  at TEXT NOT NULL,
  given {int} NOT NULL REFERENCES event (seq),
  undone {int} REFERENCES event (seq)
) {strict};
CREATE UNIQUE INDEX one_answer ON answer (task, person) WHERE undone IS NULL;
CREATE INDEX answers_of ON answer (person, task);
CREATE TABLE draft (
  task {int} NOT NULL REFERENCES task (id),
  person {int} NOT NULL REFERENCES person (id),
  body TEXT NOT NULL,
  at TEXT NOT NULL,
  PRIMARY KEY (task, person)
) {strict};
