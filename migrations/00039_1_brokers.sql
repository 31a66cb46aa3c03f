SET LOCAL search_path = pg_catalog, pg_temp;

-- Messages go to RabbitMQ, to brokers of MQTT and to services of clouds.
CREATE OR REPLACE FUNCTION postrider.sink_is_known() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off AS $$
DECLARE
    known  text[] := '{amqp,amqps,http,https,kafka,kafkas,mqtt,mqtts,nats,postgres,postgresql,pubsub,pull,redis,rediss,sns,sql,sqs,stdout,tls}';
    scheme text := substring(NEW.sink FROM '^([^:]*):');
BEGIN
    IF scheme <> ALL (known) THEN -- without any, a constraint says so
        RAISE EXCEPTION 'sink: the scheme "%" is unknown; known are %', left(scheme, 60), array_to_string(known, ', ') USING ERRCODE = '22023';
    END IF;
    RETURN NEW;
END $$;
