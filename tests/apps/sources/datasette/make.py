import sqlite3

database = sqlite3.connect("data.db")
database.execute("create table numbers (name text primary key, value integer)")
database.execute("insert into numbers values ('six', 6)")
database.commit()
