CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id    integer PRIMARY KEY,
    spent bigint NOT NULL DEFAULT 0
);
CREATE TABLE shop.orders (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer integer NOT NULL REFERENCES shop.customers,
    item     text NOT NULL,
    cents    integer NOT NULL,
    paid     boolean NOT NULL DEFAULT false
);
CREATE TABLE shop.payments (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "order" bigint NOT NULL REFERENCES shop.orders,
    cents   integer NOT NULL
);
INSERT INTO shop.customers (id) SELECT generate_series(0, 200);
GRANT USAGE ON SCHEMA shop TO app;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA shop TO app;
