"""What a run leaves for people and for other programs: one HTML page, JUnit XML, captures as one pcapng.

All of it is made from a run's folder (`archive`), so it can be made again from an archived run, without root.
"""
