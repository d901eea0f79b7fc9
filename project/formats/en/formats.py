"""How dates and times are written: one style, which sorts as it reads."""

DATE_FORMAT = SHORT_DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = SHORT_DATETIME_FORMAT = "Y-m-d H:i"
MONTH_DAY_FORMAT = "d M"
YEAR_MONTH_FORMAT = "Y-m"
