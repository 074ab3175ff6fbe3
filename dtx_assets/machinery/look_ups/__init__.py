"""Value maps and crosswalks as datasets of the lake."""
