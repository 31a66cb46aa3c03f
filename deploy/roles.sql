-- Who the relay and the application are. What they may do comes with the schema.
CREATE ROLE relay LOGIN PASSWORD 'relay';
CREATE ROLE app LOGIN PASSWORD 'app';
