CREATE TABLE t (id int unsigned PRIMARY KEY, a varchar(20), d decimal(10,2), e enum('x','y'), j json, ts timestamp(3) NULL, b blob, dt datetime(6), tm time(2), y year, s set('p','q'), bi bit(9), f float, g double, da date, bn binary(4), ge point)
CREATE TABLE ghc (id bigint unsigned NOT NULL AUTO_INCREMENT, last_update timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, hint varchar(64) NOT NULL, value varchar(4096) NOT NULL, PRIMARY KEY (id))
CREATE TABLE u (id int PRIMARY KEY)
INSERT INTO t VALUES (1,'a',1.50,'x','{"a": [1, 2.5, "x", null, {"b": true}], "c": "text that is long enough"}','2024-02-29 01:02:03.004','blob','2024-02-29 01:02:03.000005','-01:02:03.04',2024,'p,q',b'101',1.5,2.5,'2024-02-29','ab',ST_GeomFromText('POINT(1 2)')),(2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)
INSERT INTO u VALUES (1)
INSERT INTO ghc (id, hint, value) VALUES (1,'heartbeat','2024-02-29T01:02:03.000004Z'),(2,'state','AllEventsUpToLockProcessed:1:00000000000000ff')
UPDATE t SET a='b', d=-2.25 WHERE id=1
SET SESSION binlog_row_image=MINIMAL
UPDATE t SET e='y' WHERE id=1
SET SESSION binlog_row_image=FULL
XA START 'one','two',3
INSERT INTO t (id) VALUES (3)
XA END 'one','two',3
XA PREPARE 'one','two',3
XA COMMIT 'one','two',3
XA START 'four'
INSERT INTO t (id) VALUES (4)
XA END 'four'
XA COMMIT 'four' ONE PHASE
BEGIN
DELETE FROM t WHERE id=2
SAVEPOINT a
DELETE FROM t WHERE id=3
COMMIT
