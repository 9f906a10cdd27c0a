import os

SECRET_KEY = "not secret"
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.getcwd()}/ihatemoney.sqlite"
ACTIVATE_DEMO_PROJECT = False
MAIL_SUPPRESS_SEND = True
SESSION_COOKIE_SECURE = False
