"""RabbitMQ as a broker. The only package that imports pika."""
