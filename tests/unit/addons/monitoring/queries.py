"""The queries whose answers are compared with Prometheus'."""

from __future__ import annotations

QUERIES = """
up
up{job="api"}
up{job!="api"}
up{instance=~"a.*|c:81"}
up{instance!~"b.*"}
{__name__="up",job=~".+"}
{__name__=~"up|build_info",instance="a:80"}
up{missing=""}
up{job="api",missing!="x"}
up{job=~"a.i"}
up{job=~"(?i)API"}
up{job=~"p"}
quoted{path="C:\\\\dir \\"x\\"\\n"}
quoted{word='ü→日本'}
quoted{word=`ü→日本`}
nothing_at_all
up offset 5m
up offset -5m
up offset 1h30m
up @ 1700003000
up @ 1700003000.5
up @ start()
up @ end()
up @ 1700003000 offset 10m
up offset 10m @ 1700003000
gappy
gappy offset 3m
temperature
once
moved
special
-up
+up
- - up
-special
http_requests_total{code="200"}
rate(http_requests_total[5m])
rate(http_requests_total{code="500"}[1m])
rate(http_requests_total[45s])
rate(http_requests_total[30s])
rate(http_requests_total[15s])
rate(http_requests_total[14s])
rate(http_requests_total[1h])
rate(special[5m])
rate(special[5m] offset 5m)
increase(special[47s])
stddev by (kind) (special)
topk(1e300, nothing_at_all)
nothing_at_all * on (job) group_left () odd_bucket
holt_winters(up[5m], 0, 0.5)
holt_winters(up[5m], 0.5, 1)
holt_winters(nothing_at_all[5m], 5, 5)
holt_winters(up[15s], 0.5, 0.5)
rate(http_requests_total[5m] offset 7m)
rate(http_requests_total[5m] @ 1700003000)
rate(http_requests_total[5m] @ end())
irate(http_requests_total[5m])
irate(http_requests_total[20s])
increase(http_requests_total[5m])
increase(http_requests_total[30m])
increase(once[10m])
rate(once[1h])
delta(memory_bytes[5m])
delta(temperature[10m])
delta(gappy[10m])
rate(gappy[10m])
increase(gappy[20m])
idelta(memory_bytes[5m])
idelta(gappy[5m])
deriv(memory_bytes[10m])
deriv(temperature[10m])
deriv(up[10m])
deriv(special[5m])
predict_linear(memory_bytes[10m], 3600)
predict_linear(temperature[20m], -600)
predict_linear(temperature[20m] offset 5m, 60)
holt_winters(memory_bytes[10m], 0.5, 0.1)
holt_winters(temperature[5m], 0.3, 0.9)
changes(up[30m])
changes(special[5m])
changes(gappy[20m])
resets(http_requests_total[1h])
resets(memory_bytes[30m])
resets(special[5m])
avg_over_time(memory_bytes[5m])
avg_over_time(special[5m])
avg_over_time(gappy[10m])
sum_over_time(up[5m])
sum_over_time(special[5m])
sum_over_time(temperature[7m])
min_over_time(memory_bytes[5m])
min_over_time(special[5m])
max_over_time(memory_bytes[5m])
max_over_time(special[5m])
count_over_time(up[5m])
count_over_time(gappy[10m])
count_over_time(temperature[1m])
count_over_time(special[5m])
last_over_time(gappy[10m])
last_over_time(special[5m])
present_over_time(gappy[10m])
present_over_time(once[30m])
stddev_over_time(memory_bytes[5m])
stddev_over_time(special{kind!="huge"}[5m])
stdvar_over_time(temperature[5m])
stdvar_over_time(up[5m])
quantile_over_time(0.5, memory_bytes[5m])
quantile_over_time(0.95, temperature[10m])
quantile_over_time(-1, memory_bytes[5m])
quantile_over_time(2, memory_bytes[5m])
quantile_over_time(NaN, memory_bytes[5m])
quantile_over_time(0.3, special[5m])
absent(up)
absent(nothing_at_all)
absent(nothing_at_all{job="x",instance=~"y",a="b"})
absent(nothing_at_all{job="x",job="y",a="b"})
absent(sum(nothing_at_all))
absent(gappy{kind="gap"})
absent(up{job="none"})
absent_over_time(gappy{kind="gap"}[2m])
absent_over_time(nothing_at_all{a="b"}[5m])
absent_over_time(up[5m])
absent_over_time(once{kind="single"}[5m:1m])
sum(up)
sum by (job) (up)
sum(up) by (job)
sum without (instance) (up)
sum by () (up)
sum without () (up)
sum by (job, missing) (up)
sum by (__name__) (up)
sum(http_requests_total) by (code, method)
sum by (job) (rate(http_requests_total[5m]))
sum without (code, method) (rate(http_requests_total[5m]))
sum(special)
sum(special{kind!~"nan|mixed|inf|infs|both|minus_inf|huge"})
avg(memory_bytes)
avg by (job) (memory_bytes)
avg(special)
avg(special{kind=~"infs?|zero"})
min(memory_bytes)
min by (job) (memory_bytes)
min(special)
max without (instance) (memory_bytes)
max(special)
max(special{kind="nan"})
count(up)
count by (job) (up == 1)
count(gappy)
count(nothing_at_all)
group(up)
group by (job) (up)
stddev(memory_bytes)
stddev by (job) (memory_bytes)
stdvar(temperature)
stdvar(special{kind=~"zero|third|negative"})
stddev(special)
topk(2, memory_bytes)
topk(1, memory_bytes) by (job)
topk by (job) (2, memory_bytes)
topk(3, special)
topk(0, memory_bytes)
topk(100, temperature)
bottomk(2, memory_bytes)
bottomk(1, special)
bottomk by (job) (1, memory_bytes)
topk(scalar(count(up)) - 4, memory_bytes)
quantile(0.5, memory_bytes)
quantile by (job) (0.9, memory_bytes)
quantile(1.5, memory_bytes)
quantile(-0.5, memory_bytes)
quantile(0.25, special)
count_values("value", up)
count_values by (job) ("value", up)
count_values("value", special)
count_values("value", memory_limit_bytes)
count_values without (instance) ("job", up)
1
1.5e3
0x1F
-2 ^ 2
2 ^ 3 ^ 2
1 + 2 * 3
(1 + 2) * 3
10 % 4
-10 % 4
10 % 0
1 / 0
-1 / 0
0 / 0
5 atan2 3
1 == bool 1
1 > bool 2
NaN == bool NaN
Inf
-Inf
NaN
"a string"
'single \\'quoted\\''
`raw \\n`
up + 1
1 + up
up * 2
memory_bytes / 1024 / 1024
2 ^ up
up ^ 2
memory_bytes % 1000
special % 2
special / 0
0 / special
special ^ 2
special ^ 0.5
special * special
special - special
special atan2 1
up == 1
up != 1
up == bool 1
memory_bytes > 1e9
memory_bytes > bool 1e9
memory_bytes >= 1e9 <= 1.8e9
1e9 < memory_bytes
1e9 < bool memory_bytes
special == special
special != special
special == NaN
special > 0
special < bool 0
memory_bytes / memory_limit_bytes
memory_bytes / on (job, instance) memory_limit_bytes
memory_bytes > memory_limit_bytes
memory_limit_bytes > bool memory_bytes
memory_limit_bytes > on (instance, job) memory_bytes
memory_bytes - ignoring (version) build_info
up * on (job, instance) group_left (version) build_info
http_requests_total * on (job, instance) group_left (version) build_info
http_requests_total / on (job, instance) group_left latency_seconds_count
build_info * on (job, instance) group_right (version) http_requests_total{code="500"}
http_requests_total / ignoring (code) group_left sum without (code) (http_requests_total)
http_requests_total > on (job, instance) group_left latency_seconds_count
http_requests_total == bool on (job, instance) group_left latency_seconds_count
up * on (job) group_left (side) moved
sum by (job) (up) * on (job) group_right up
up and build_info
up and on (job, instance) build_info{version="1.2.3"}
up and ignoring (version) build_info{version!="1.2.3"}
up unless on (job, instance) build_info{version="1.2.3"}
up or build_info
up or on (job, instance) build_info
up{job="api"} or up{job="web"}
up or on () memory_bytes
gappy or gappy offset 5m
gappy unless gappy offset 5m
gappy and gappy offset 5m
nothing_at_all or up
nothing_at_all and up
up unless nothing_at_all
vector(1) or vector(2)
(up == 0) or (up == 1) * 2
sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m]))
100 * (1 - avg by (job) (up))
histogram_quantile(0.9, rate(latency_seconds_bucket[5m]))
histogram_quantile(0.5, sum by (le) (rate(latency_seconds_bucket[5m])))
histogram_quantile(0.99, sum by (job, le) (rate(latency_seconds_bucket[10m])))
histogram_quantile(0, latency_seconds_bucket)
histogram_quantile(1, latency_seconds_bucket)
histogram_quantile(-0.1, latency_seconds_bucket)
histogram_quantile(1.1, latency_seconds_bucket)
histogram_quantile(NaN, latency_seconds_bucket)
histogram_quantile(0.5, odd_bucket)
histogram_quantile(0.05, odd_bucket)
histogram_quantile(0.9, odd_bucket{kind!="nan"})
histogram_quantile(0.9, up)
histogram_quantile(scalar(vector(0.7)), latency_seconds_bucket)
histogram_count(latency_seconds_bucket)
histogram_sum(up)
rate(latency_seconds_sum[5m]) / rate(latency_seconds_count[5m])
label_replace(up, "host", "$1", "instance", "(.*):.*")
label_replace(up, "host", "${1}-$2-$$x-$9", "instance", "(.*):(.*)")
label_replace(up, "host", "x", "instance", "b.*")
label_replace(up, "job", "", "job", "api")
label_replace(up, "host", "$name", "instance", "(?P<name>.*):.*")
label_replace(up, "host", "$1x", "instance", "(.*):.*")
label_replace(up, "__name__", "renamed", "job", "api")
label_replace(up, "new", "v", "missing", "")
label_replace(up, "new", "v", "missing", ".+")
label_join(up, "both", "-", "job", "instance")
label_join(up, "both", ", ", "job", "missing", "instance")
label_join(up, "job", "", "missing")
label_join(up, "empty", "x")
sum by (host) (label_replace(up, "host", "$1", "instance", "(.*):.*"))
clamp(memory_bytes, 5e8, 1.5e9)
clamp(memory_bytes, 5, 1)
clamp(special, -1, 1)
clamp_min(special, 0)
clamp_max(special, 0)
clamp_max(special, NaN)
clamp_min(up, scalar(sum(up)))
abs(special)
ceil(special)
floor(special)
round(special)
round(temperature, 0.5)
round(memory_bytes, 1e6)
round(special, 0)
round(-2.5 * up)
exp(special)
ln(special{kind!="tiny"})
log2(special)
log10(special{kind!="tiny"})
sqrt(special)
sgn(special)
sin(special{kind!~"large|huge"})
cos(special{kind!~"large|huge"})
tan(special{kind!~"large|huge"})
asin(special)
acos(special)
atan(special)
sinh(special)
cosh(special)
tanh(special)
asinh(special{kind!="huge"})
acosh(special{kind!="huge"})
atanh(special)
atanh(up)
deg(special{kind!="huge"})
rad(special)
pi()
time()
time() - 1700000000
timestamp(up)
timestamp(temperature)
timestamp(temperature offset 1m)
timestamp(temperature @ 1700003000)
timestamp((temperature))
timestamp(-temperature)
timestamp(sum(up))
timestamp(vector(1))
hour()
minute()
month()
year()
day_of_month()
day_of_week()
day_of_year()
days_in_month()
hour(clock_seconds)
minute(clock_seconds)
month(clock_seconds)
year(clock_seconds)
day_of_month(clock_seconds)
day_of_week(clock_seconds)
day_of_year(clock_seconds)
days_in_month(clock_seconds)
year(vector(-62135596801))
month(vector(951782400))
day_of_year(vector(951782400))
day_of_week(vector(-1))
hour(vector(-1))
hour(vector(1e9))
vector(1)
vector(time())
scalar(up)
scalar(up{job="api",instance="a:80"})
scalar(nothing_at_all)
scalar(sum(up)) + 1
vector(scalar(up{job="api",instance="b:80"}))
sort(memory_bytes)
sort_desc(memory_bytes)
sort(special{kind=~"nan|inf|zero|negative|third"})
sort_desc(special{kind=~"nan|inf|zero|negative|third"})
sort(up * on (job, instance) memory_bytes)
max_over_time(rate(http_requests_total{code="200"}[5m])[30m:1m])
max_over_time(up[10m:])
avg_over_time(sum by (job) (up)[20m:30s])
sum_over_time(gappy[10m:15s])
count_over_time(gappy[10m:37s])
min_over_time(rate(http_requests_total[2m])[10m:1m] offset 5m)
max_over_time(memory_bytes[10m:1m] @ 1700003000)
max_over_time((memory_bytes @ 1700003000)[10m:1m])
rate(sum by (job) (http_requests_total)[10m:30s])
deriv(rate(http_requests_total{code="200"}[1m])[10m:1m])
quantile_over_time(0.9, rate(latency_seconds_count[1m])[10m:30s])
sum_over_time(vector(1)[10m:1m])
max_over_time(time()[5m:1m])
last_over_time(up[5m:1m])
count_over_time(up[1m:7s])
avg_over_time(avg_over_time(temperature[2m])[10m:2m])
predict_linear(rate(http_requests_total{code="200"}[2m])[10m:30s], 60)
increase(http_requests_total{code="200"}[10m:15s])
up[1m]
up{job="api",instance="a:80"}[2m] offset 1m
up{job="api",instance="a:80"}[2m:30s]
gappy[5m]
special{kind="both"}[1m]
once[1h]
temperature[1m] @ 1700003000
sum(up) by (job) > on (job) group_right up
sum by (job) (up) and on (job) (count by (job) (up) == 3)
sum(sum by (job) (up))
(up)
((up)) * ((2))
up # a comment
sum(up) # another
  up  {  job = "api" , }
SUM(up) BY (job)
sum by(job)(up)offset 5m
http_requests_total{code="200"} unless http_requests_total{code="200"} < 500
avg(rate(http_requests_total[5m])) by (job) > bool 5
bottomk(1, rate(http_requests_total{code="200"}[5m])) by (job)
topk(2, rate(http_requests_total{code="200"}[5m]))
count(count by (instance) (up))
up{job="api"} * on (instance) up{job="web"}
up{job="api"} + on (instance) group_left (job) up{job="web"}
sum without (job) (up) == on (instance) sum by (instance) (up)
memory_bytes * on (instance, job) group_left () up
up * up
up{job="api"} * up{job="web"}
{__name__=~"memory_.*"}
{__name__=~"memory_.*"} * 1
-{__name__=~"memory_.*"}
rate({__name__=~"latency_seconds_(sum|count)"}[5m])
last_over_time({__name__=~"latency_seconds_(sum|count)"}[5m])
abs({__name__=~"memory_.*"})
{__name__=~"memory_.*"} > 1
{__name__=~"memory_.*"} > bool 1
sum by (__name__) ({__name__=~"memory_.*"})
label_replace({__name__=~"memory_.*"}, "__name__", "same", "", "")
up * on (job) up
up * on (instance) group_left http_requests_total
http_requests_total * on (job, instance) group_left (code) http_requests_total{method="GET"}
up + on (job, instance) http_requests_total
up == on (job) group_left up
topk(NaN, up)
topk(1e30, up)
count_values("bad-label", up)
label_replace(up, "bad-label", "x", "job", ".*")
label_replace(up, "x", "x", "job", "(")
label_join(up, "bad-label", "x", "job")
label_join(up, "x", "x", "bad-label")
up{job="api"} or on (nothing) up{job="web"}
month(special)
days_in_month(special)
""".strip("\n").split("\n")

# Compared as instant queries only, because of a fault in Prometheus 2.42: in a range query, it moves the window from
# step to step, in spite of `@`. Later versions do not.
INSTANT = ["predict_linear(temperature[20m] @ 1700003000, 60)"]

# Invalid queries. The texts of the errors are compared, too, but not those of range queries.
ERRORS = (
    """

 
up +
up + * 3
up{
up{job
up{job=
up{job="api"
up{job="api",
up{job="api" instance="a"}
up{job==1}
up{job=~"("}
up{job=~"a)(b"}
up{job=~"\\\\C"}
up{=}
up{,}
up{job="a",,}
up{1}
up{job!}
up{job!1}
up{job="a"}}
up{{job="a"}
{}
{job=""}
{job=~".*"}
{job!="x"}
up{__name__="up"}
foo(up)
rate(up)
rate()
rate(up[5m], 1)
rate(up[5m]) offset 5m
rate(up[5m:1m]) @ 5
sum
sum()
sum(up, up)
sum by
sum by (
sum by (job
sum by (job up
sum by (job) up
sum by (1) (up)
sum by (a:b) (up)
sum by (job,) (up)
sum by (,) (up)
sum (up) by job
sum(up[5m])
sum("a")
sum(1)
topk(up)
topk(up, up)
topk("a", up)
count_values(1, up)
sum(up up)
sum up
sum foo bar
sum by (job) (up) foo
avg(rate(up[5m]) by
(up
up)
((up)
()
(up,)
up[5m
up[5m]]
up[
up[]
up[5]
up[5m:
up[5m:1m
up[5m:1m:1m]
up[5m:x]
up[5x]
up[x]
up[5m 1m]
up{job=~"*"}
up{job=~"a**"}
up{job=~"a{1001}"}
up{job=~"[z-a]"}
up{job=~"[a"}
up{job=~"(?z)"}
up{job=~"\\\\"}
up[0m]
up[5hs]
up[-5m]
up[1m5h]
up[5m][5m]
up[5m] + 1
1 + up[5m]
up[5m] and up
sum(up)[5m]
1[5m]
up[5m:1m][5m]
"a"[5m:1m]
-up[5m]
-"a"
"a" + 1
"a" == "a"
1 == 1
1 > 2
1 and 1
up and 1
1 or up
up + bool up
1 + bool 2
up + on (job) 1
1 + ignoring (job) 2
up and on (job) group_left up
up + group_left up
up + on job up
up + on (job) group_left (job) up
up + on (job, instance) group_left (instance) up
up offset
up offset 5
up offset x
up offset 5m offset 5m
up offset - 
1 offset 5m
sum(up) offset 5m
up @
up @ x
up @ "1"
up @ start
up @ start(
up @ start(1)
up @ 1 @ 2
up @ start() @ end()
up @ Inf
up @ NaN
up @ -1e30
1 @ 5
up offset 5m[5m]
up @ 5[5m]
(up)[5m]
(up[5m])
clamp(up, 1)
clamp(up, 1, 2, 3)
round()
round(up, 1, 2)
label_join(up)
label_join(up, "a")
label_replace(up, "a", "b", "c")
label_replace("a", "a", "b", "c", "d")
time(1)
hour(1)
hour(up, up)
vector(up)
scalar(1)
foo(
foo(1,
foo(1,)
abs(up,)
abs(,)
abs(up;)
up;
up $ 1
up ! 1
up = 1
up =~ "x"
up !~ "x"
1 =~ 2
5m
5e
0x
1.2.3
1..2
08
1_000
99999999999999999999
1e999
.
5mm
abc:def(1)
a:b:c + $
"unterminated
'unterminated
`unterminated
"bad \\q escape"
"bad \\x1 escape"
"\\400"
"\\ud800"
"a
b"
up{job="a
"}
up +
  foo(
up

  + $
on
bool
by(up)
start(up)
group_left
ignoring
1 2
up up
up 1
up "a"
up{a="b"} c
ü
up ü
up{ü="a"}
sum(ü)
up == bool
up < = 1
up <> 1
up ^ ^ 2
&
||
up & up
up{a="b" or c="d"}
sum(up) by (job) by (job)
sum by (job) (up) by (job)
sum without by (job) (up)
[5m]
offset 5m
: 
:a
a[:]
a[1m:]b
nan(1)
inf(1)
rate(up[5m]) by (job)
min(up) max(up)
histogram_quantile(0.5)
histogram_quantile(up, up)
quantile_over_time(up[5m], 0.5)
predict_linear(up[5m])
absent_over_time(up)
""".removeprefix("\n")
    .removesuffix("\n")
    .split("\n")
)
