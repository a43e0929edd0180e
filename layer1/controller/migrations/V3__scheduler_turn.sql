-- One scheduler acts at a time. Discovery says which; a scheduler that was paused and wakes may still believe
-- it is the one. Its turn is over once another has begun a later one, and what it records is refused.

CREATE TABLE scheduler_turn (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    turn bigint NOT NULL
);
INSERT INTO scheduler_turn (turn) VALUES (0);
