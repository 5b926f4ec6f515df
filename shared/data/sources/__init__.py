"""Where images come from: each kind of place gives the bytes of wanted images, in the order that is quickest.

A place is opened once; nothing in it is ever unpacked, moved or changed.
"""
