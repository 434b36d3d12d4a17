-- Where readings come from, and the last one that was counted.
CREATE TABLE source (
    cluster   TEXT   NOT NULL,
    node      TEXT   NOT NULL,
    epoch     TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    meter     TEXT   NOT NULL,
    workspace TEXT   NOT NULL,
    minute    BIGINT NOT NULL,
    reading   BIGINT NOT NULL,
    PRIMARY KEY (cluster, node, epoch, object, meter)
);

-- What was used, by hour. A charge is in attounits (10^-18 of the currency's
-- unit), as decimal text, because it needs more than 64 bits.
CREATE TABLE usage (
    workspace TEXT   NOT NULL,
    payer     TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    meter     TEXT   NOT NULL,
    hour      BIGINT NOT NULL,
    name      TEXT   NOT NULL,
    quantity  BIGINT NOT NULL,
    charge    TEXT   NOT NULL,
    PRIMARY KEY (workspace, payer, object, meter, hour)
);

-- What a unit of a meter costs from a minute on, in attounits.
CREATE TABLE price (
    meter       TEXT   NOT NULL,
    from_minute BIGINT NOT NULL,
    atto        BIGINT NOT NULL,
    PRIMARY KEY (meter, from_minute)
);
