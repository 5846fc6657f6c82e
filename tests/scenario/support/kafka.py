"""A Kafka client for tests: the product's own librdkafka by ctypes. Reads whole topics, publishes, asks what a group committed."""
import collections
import ctypes as c
import time

Message = collections.namedtuple("Message", "partition offset key value headers")
Committed = collections.namedtuple("Committed", "offset metadata")

PRODUCER, CONSUMER = 0, 1
# What a broker answers for a while after its start, or while a group's coordinator moves: asked again, as any client does.
PASSING = {-195, -187, -185, 5, 6, 14, 15, 16}  # transport, all brokers down, timed out, no leader, not leader, coordinator loads, has none, not it
BEGINNING, END_OF_PARTITION, TIMEOUT_MS = -2, -191, 20000


class TopicPartition(c.Structure):
    _fields_ = [("topic", c.c_char_p), ("partition", c.c_int32), ("offset", c.c_int64), ("metadata", c.c_void_p),
                ("metadata_size", c.c_size_t), ("opaque", c.c_void_p), ("err", c.c_int), ("private", c.c_void_p)]


class TopicPartitions(c.Structure):
    _fields_ = [("cnt", c.c_int), ("size", c.c_int), ("elems", c.POINTER(TopicPartition))]


class RawMessage(c.Structure):
    _fields_ = [("err", c.c_int), ("rkt", c.c_void_p), ("partition", c.c_int32), ("payload", c.c_void_p), ("len", c.c_size_t),
                ("key", c.c_void_p), ("key_len", c.c_size_t), ("offset", c.c_int64), ("private", c.c_void_p)]


class MetadataTopic(c.Structure):
    _fields_ = [("topic", c.c_char_p), ("partition_cnt", c.c_int), ("partitions", c.c_void_p), ("err", c.c_int)]


class Metadata(c.Structure):
    _fields_ = [("broker_cnt", c.c_int), ("brokers", c.c_void_p), ("topic_cnt", c.c_int), ("topics", c.POINTER(MetadataTopic)),
                ("orig_broker_id", c.c_int32), ("orig_broker_name", c.c_char_p)]


def _library():
    lib = c.CDLL("librdkafka.so.1")
    p, s, i, n = c.c_void_p, c.c_char_p, c.c_int, c.c_size_t
    parts = c.POINTER(TopicPartitions)
    for name, result, *arguments in (
            ("conf_new", p), ("conf_set", i, p, s, s, s, n), ("new", p, i, p, s, n), ("destroy", None, p), ("err2str", s, i),
            ("poll_set_consumer", i, p), ("metadata", i, p, i, p, c.POINTER(c.POINTER(Metadata)), i), ("metadata_destroy", None, p),
            ("query_watermark_offsets", i, p, s, c.c_int32, c.POINTER(c.c_int64), c.POINTER(c.c_int64), i),
            ("topic_partition_list_new", parts, i), ("topic_partition_list_destroy", None, parts),
            ("topic_partition_list_add", c.POINTER(TopicPartition), parts, s, c.c_int32), ("committed", i, p, parts, i),
            ("assign", i, p, parts), ("consumer_poll", c.POINTER(RawMessage), p, i), ("message_destroy", None, p),
            ("message_headers", i, p, c.POINTER(p)), ("header_get_all", i, p, n, c.POINTER(s), c.POINTER(p), c.POINTER(n)),
            ("message_timestamp", c.c_int64, p, p), ("consumer_close", i, p), ("flush", i, p, i), ("outq_len", i, p), ("queue_new", p, p), ("queue_destroy", None, p),
            ("queue_poll", p, p, i), ("event_error", i, p), ("event_destroy", None, p), ("DeleteRecords_new", p, parts),
            ("DeleteRecords_destroy", None, p), ("DeleteRecords", None, p, c.POINTER(p), n, p, p),
            ("DeleteTopic_new", p, s), ("DeleteTopic_destroy", None, p), ("DeleteTopics", None, p, c.POINTER(p), n, p, p)):
        function = getattr(lib, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    lib.rd_kafka_producev.restype = i
    lib.rd_kafka_producev.argtypes = [p]
    return lib


lib = _library()


def check(err, what):
    if err:
        raise RuntimeError(f"{what}: {lib.rd_kafka_err2str(err).decode()}")


def persist(call, what):
    """Asks again while the answer is one of PASSING, for as long as a broker may need to come back."""
    until = time.monotonic() + 60
    while (err := call()) in PASSING and time.monotonic() < until:
        time.sleep(0.2)
    check(err, what)


class Client:
    """One handle, closed by `with`."""

    def __init__(self, kind, **settings):
        conf, text = lib.rd_kafka_conf_new(), c.create_string_buffer(512)
        for name, value in settings.items():
            if lib.rd_kafka_conf_set(conf, name.replace("_", ".").encode(), str(value).encode(), text, len(text)):
                raise ValueError(text.value.decode())
        self.handle = lib.rd_kafka_new(kind, conf, text, len(text))
        assert self.handle, text.value.decode()

    def __enter__(self):
        return self.handle

    def __exit__(self, *_):
        lib.rd_kafka_destroy(self.handle)


def bytes_at(pointer, length):
    return None if pointer is None else c.string_at(pointer, length)


class Kafka:
    def __init__(self, brokers):
        self.brokers = brokers

    def _client(self, kind=PRODUCER, **settings):
        return Client(kind, bootstrap_servers=self.brokers, **settings)

    def topics(self):
        """{name: number of partitions}"""
        with self._client() as rk:
            found = c.POINTER(Metadata)()
            persist(lambda: lib.rd_kafka_metadata(rk, 1, None, c.byref(found), TIMEOUT_MS), "metadata")
            try:
                listed = (found.contents.topics[n] for n in range(found.contents.topic_cnt))
                return {t.topic.decode(): t.partition_cnt for t in listed}
            finally:
                lib.rd_kafka_metadata_destroy(found)

    def _partitions(self, topic):
        """How many it has. A broker that has just started may have acknowledged a topic that it does not list yet."""
        until = time.monotonic() + 30
        while topic not in (listed := self.topics()) and time.monotonic() < until:
            time.sleep(0.1)
        return listed[topic]

    def watermarks(self, topic):
        """{partition: (first offset, next offset)}"""
        partitions, marks, low, high = self._partitions(topic), {}, c.c_int64(), c.c_int64()
        with self._client() as rk:
            for p in range(partitions):
                name = topic.encode()
                persist(lambda p=p: lib.rd_kafka_query_watermark_offsets(rk, name, p, c.byref(low), c.byref(high), TIMEOUT_MS), topic)
                marks[p] = (low.value, high.value)
        return marks

    def committed(self, group, topic):
        """{partition: Committed(offset, metadata)}; offset None where the group has committed nothing."""
        partitions = self._partitions(topic)
        with self._client(CONSUMER, group_id=group) as rk:
            wanted = lib.rd_kafka_topic_partition_list_new(partitions)
            try:
                for p in range(partitions):
                    lib.rd_kafka_topic_partition_list_add(wanted, topic.encode(), p)
                persist(lambda: lib.rd_kafka_committed(rk, wanted, TIMEOUT_MS), f"committed offsets of {group}")
                elems = [wanted.contents.elems[n] for n in range(partitions)]
                return {e.partition: Committed(e.offset if e.offset >= 0 else None, bytes_at(e.metadata, e.metadata_size)) for e in elems}
            finally:
                lib.rd_kafka_topic_partition_list_destroy(wanted)

    def read(self, topic):
        """Every message there is at this moment, by partition and offset. A tombstone's value is None."""
        return [message for _, message in self.read_timed(topic)]

    def read_timed(self, topic):
        """The same as (milliseconds since 1970, message). What passes is waited for, by the library itself."""
        partitions, found, open_partitions = self._partitions(topic), [], 0
        with self._client(CONSUMER, group_id="tests", enable_partition_eof="true", enable_auto_commit="false", fetch_wait_max_ms=5) as rk:
            lib.rd_kafka_poll_set_consumer(rk)
            wanted = lib.rd_kafka_topic_partition_list_new(partitions)
            for p in range(partitions):
                lib.rd_kafka_topic_partition_list_add(wanted, topic.encode(), p).contents.offset = BEGINNING
                open_partitions += 1
            check(lib.rd_kafka_assign(rk, wanted), "assign")
            lib.rd_kafka_topic_partition_list_destroy(wanted)
            while open_partitions:
                raw = lib.rd_kafka_consumer_poll(rk, TIMEOUT_MS)
                if not raw:
                    raise RuntimeError(f"reading {topic}: nothing within {TIMEOUT_MS} ms")
                message = raw.contents
                if message.err == END_OF_PARTITION:
                    open_partitions -= 1
                elif not message.err:
                    found.append((lib.rd_kafka_message_timestamp(raw, None),
                                  Message(message.partition, message.offset, bytes_at(message.key, message.key_len),
                                          bytes_at(message.payload, message.len), self._headers(raw))))
                err = message.err if message.err != END_OF_PARTITION and message.err not in PASSING else 0
                lib.rd_kafka_message_destroy(raw)
                check(err, f"reading {topic}")
            lib.rd_kafka_consumer_close(rk)
        return sorted(found, key=lambda pair: (pair[1].partition, pair[1].offset))

    @staticmethod
    def _headers(raw):
        headers, found, index = c.c_void_p(), {}, 0
        name, value, size = c.c_char_p(), c.c_void_p(), c.c_size_t()
        if lib.rd_kafka_message_headers(raw, c.byref(headers)) == 0:
            while lib.rd_kafka_header_get_all(headers, index, c.byref(name), c.byref(value), c.byref(size)) == 0:
                found[name.value.decode()] = bytes_at(value.value, size.value)
                index += 1
        return found

    def publish(self, topic, messages):
        """Messages as read() returned them, or made by hand; partition -1 lets the key decide."""
        none, int32, size = c.c_int(0), c.c_int32, c.c_size_t
        with self._client(acks="all") as rk:
            for m in messages:
                arguments = [c.c_int(1), c.c_char_p(topic.encode()), c.c_int(3), int32(m.partition), c.c_int(7), c.c_int(2)]
                arguments += [c.c_int(4), c.c_char_p(m.value), size(len(m.value or b"")), c.c_int(5), c.c_char_p(m.key), size(len(m.key or b""))]
                for name, content in (m.headers or {}).items():
                    arguments += [c.c_int(9), c.c_char_p(name.encode()), c.c_char_p(content), c.c_ssize_t(len(content))]
                check(lib.rd_kafka_producev(rk, *arguments, none), f"publishing to {topic}")
            check(lib.rd_kafka_flush(rk, TIMEOUT_MS), f"publishing to {topic}")

    def delete_before(self, topic, partition, offset):
        """What retention would do: the log of the partition begins at offset from now on."""
        wanted = lib.rd_kafka_topic_partition_list_new(1)
        lib.rd_kafka_topic_partition_list_add(wanted, topic.encode(), partition).contents.offset = offset
        request = lib.rd_kafka_DeleteRecords_new(wanted)
        lib.rd_kafka_topic_partition_list_destroy(wanted)
        self._admin(lib.rd_kafka_DeleteRecords, request, lib.rd_kafka_DeleteRecords_destroy)

    def delete_topic(self, topic):
        self._admin(lib.rd_kafka_DeleteTopics, lib.rd_kafka_DeleteTopic_new(topic.encode()), lib.rd_kafka_DeleteTopic_destroy)

    def _admin(self, call, request, destroy):
        with self._client() as rk:
            queue = lib.rd_kafka_queue_new(rk)
            call(rk, (c.c_void_p * 1)(request), 1, None, queue)
            event = lib.rd_kafka_queue_poll(queue, TIMEOUT_MS)
            err = lib.rd_kafka_event_error(event) if event else -185
            if event:
                lib.rd_kafka_event_destroy(event)
            destroy(request)
            lib.rd_kafka_queue_destroy(queue)
            check(err, call.__name__)
