/** The parts that hold the open ends: call queues, histories, orders, payloads. */
import { Machine } from '@shootdown/machine';
import { describe, expect, test } from 'vitest';
import { Histories } from './history.ts';
import type { Line } from './line.ts';
import { Orders } from './orders.ts';
import { field, mask, number } from './payload.ts';
import { Queue } from './queues.ts';

const caller = (last: number): Line => ({ last }) as Line;

describe('a call queue', () => {
  test('before it was taken once, nobody knows what waits', () => {
    const queue = new Queue();
    expect(queue.add('a', caller(1), 1)).toBeNull();
  });

  test('a call that waits makes the next one not alone, once its caller has gone on', () => {
    const queue = new Queue();
    queue.took(1);
    const first = { last: 2 };
    expect(queue.add('a', first as Line, 2)).toBe(true);
    expect(queue.add('b', caller(3), 3)).toBeNull();
    first.last = 4;
    expect(queue.add('c', caller(5), 5)).toBe(false);
  });

  test('between the interrupt and the first function calls may have been taken or not', () => {
    const queue = new Queue();
    queue.took(1);
    queue.add('a', caller(9), 2);
    queue.taking(3);
    expect(queue.add('b', caller(9), 4)).toBeNull();
    queue.took(5);
    expect(queue.ran('a')).toBe(true);
    // The second may have come too late for that, and so be there still.
    expect(queue.add('c', caller(9), 6)).toBeNull();
    queue.taking(7);
    queue.took(8);
    expect([queue.ran('b'), queue.ran('c'), queue.ran('d')]).toEqual([true, true, false]);
    expect(queue.add('e', caller(9), 9)).toBe(true);
  });
});

describe('a history', () => {
  const machine = new Machine({ cpus: 2 });

  test('what another CPU has changed may be to come until its next record', () => {
    const cell = machine.cell('x', 7);
    const histories = new Histories();
    histories.watch(cell);
    const change = { cell, cpu: 1, old: 7, bit: -1, settled: Infinity, undone: false };
    cell.value = 8;
    histories.note(change);
    expect(histories.values(cell, 10, 0)).toEqual([8, 7]);
    // A CPU sees its own steps in order.
    expect(histories.values(cell, 10, 1)).toEqual([8]);
    change.settled = 10;
    expect(histories.values(cell, 9, 0)).toEqual([8, 7]);
    expect(histories.values(cell, 10, 0)).toEqual([8]);
  });

  test('bits of a mask are apart', () => {
    const cell = machine.maskCell('mask', [0]);
    const histories = new Histories();
    histories.watch(cell);
    cell.value.set(1);
    histories.note({ cell, cpu: 1, old: false, bit: 1, settled: Infinity, undone: false });
    expect(histories.openBits(cell, 0, 0)).toEqual([1]);
    expect(histories.wasBit(cell, 1, false, 0, 0)).toBe(true);
    expect(histories.wasBit(cell, 0, false, 0, 0)).toBe(false);
  });
});

test('orders: every combination once, the first as things stand', () => {
  const orders = new Orders();
  const seen: string[] = [];
  orders.begin();
  do {
    const first = orders.index(2);
    // What is open depends on what was chosen before.
    const second = first === 0 ? orders.index(3) : orders.index(1);
    seen.push(`${first}${second}`);
  } while (orders.next());
  orders.end();
  expect(seen).toEqual(['00', '01', '02', '10']);
  expect(orders.index(5)).toBe(0);
});

test('a payload: names are whole, the highest address is the end of everything', () => {
  const payload =
    '(f+0x4/0x10) prev_gen=1 gen=22 end=0xffffffffffffffff mask=0xa1 mm=18374967954648334592';
  expect(field(payload, 'gen')).toBe('22');
  expect(number(payload, 'end')).toBe(Infinity);
  expect(mask(payload, 'mask')).toBe(0xa1n);
  expect(field(payload, 'mm')).toBe('18374967954648334592');
  expect([field(payload, 'g'), number(payload, 'nothing'), mask(payload, 'end2')]).toEqual([
    null,
    null,
    null,
  ]);
});
