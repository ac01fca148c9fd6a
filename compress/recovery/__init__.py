"""Recovery by distillation: a lighter network (the student) learns what the original (the teacher) does.

photos.py    photos without labels, and endless batches of crops of them
feeds.py     what a network takes, made of such crops
losses.py    the losses: the teacher's images, and its inner pictures where the student has the same channels
training.py  the loop, which knows neither: any student, any loss; resumable, with progress, stopped early

Nothing here knows pruning: a quantised or a smaller network learns by the same loop.
"""
