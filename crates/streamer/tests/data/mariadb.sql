SET GLOBAL log_bin_compress_min_len=10
SET GLOBAL log_bin_compress=ON
INSERT INTO t (id,a) VALUES (10,'zlib zlib zlib zlib'),(11,'zlib zlib zlib zlib')
UPDATE t SET a='zzz' WHERE id>9
CREATE TABLE compressed_statement (a_long_column_name int, another_long_column_name int)
SET GLOBAL log_bin_compress=OFF
DELETE FROM t WHERE id=1
SET SESSION binlog_format=STATEMENT
UPDATE u SET id=2
SET SESSION binlog_format=ROW
TRUNCATE t
