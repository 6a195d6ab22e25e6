"""What the pools of python_pools.py run: a module of its own, because not all of them import the main one in their workers."""
import os
import time


def empty():
    return 1


def echo(value):
    return value


def die_each_tenth(number):
    if number % 10 == 7:
        os._exit(3)
    return number


def half(value):
    return value * 0.5


def work(iterations):
    for _ in range(iterations):
        pass
    return iterations


def blocked(seconds):
    time.sleep(seconds)
