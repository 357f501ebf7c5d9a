SET SESSION binlog_transaction_compression=ON
INSERT INTO t (id,a) VALUES (10,'zstd'),(11,'zstd')
UPDATE t SET a='zzz' WHERE id>9
SET SESSION binlog_transaction_compression=OFF
SET SESSION binlog_row_value_options='PARTIAL_JSON'
UPDATE t SET j=JSON_SET(j,'$.c','short') WHERE id=1
SET SESSION gtid_next='AUTOMATIC:blue'
DELETE FROM t WHERE id=1
SET SESSION gtid_next='AUTOMATIC'
SET SESSION binlog_format=STATEMENT
UPDATE u SET id=2
SET SESSION binlog_format=ROW
TRUNCATE t
